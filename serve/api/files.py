"""`/v1/files`: what clients upload, and what batches leave for them."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from serve.admission.authenticate import Authenticator
from serve.api import query
from serve.api.body import ClientGone
from serve.api.fields import faults
from serve.api.fields.files import check_file
from serve.api.multipart import Form, read_form, unflattened
from serve.api.objects import answer_of, list_of
from serve.settings.batches import Files as Bounds
from serve.state.files import FileRecord, Files
from serve.state.folder import Incoming

LIST_MAX: Final = 10_000


def file_object(record: FileRecord) -> dict[str, Any]:
    """OpenAI's File object."""
    expires_s = record.expires_s
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size_bytes,
        "created_at": int(record.created_s),
        "expires_at": None if expires_s is None else int(expires_s),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }


class Uploading:
    """Reads forms with one file; `bounds` may change while it serves."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds

    async def file(self, request: Request, incoming: Incoming) -> Form:
        """The form of a new file."""
        return await self._read(request, incoming, "file", self.bounds.file_mib, "files.file_mib")

    async def part(self, request: Request, incoming: Incoming) -> Form:
        """The form of a part of an upload."""
        return await self._read(request, incoming, "data", self.bounds.part_mib, "files.part_mib")

    async def _read(
        self, request: Request, incoming: Incoming, name: str, mib: float, setting: str
    ) -> Form:
        try:
            form = await read_form(
                request.scope,
                request.receive,
                incoming,
                file_field=name,
                file_max_bytes=int(mib * 2**20),
                setting=setting,
            )
            if not form.found:
                raise faults.missing(name)
        except BaseException:
            await incoming.discard()
            raise
        return form


def router(files: Files, uploading: Uploading, authenticator: Authenticator) -> APIRouter:
    routes = APIRouter(prefix="/v1/files")

    def tenant_of(request: Request) -> str:
        return authenticator.authenticate(request.scope["headers"], "files").tenant

    @routes.post("")
    async def create(request: Request) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        incoming = files.begin()
        try:
            form = await uploading.file(request, incoming)
        except ClientGone:
            return Response(status_code=400)  # for nobody
        try:
            purpose, keep_s = check_file(unflattened(form.fields))
        except BaseException:
            await incoming.discard()
            raise
        name = form.filename or incoming.id
        return answer_of(file_object(await files.keep(incoming, tenant, purpose, name, keep_s)))

    @routes.get("")
    async def list_files(request: Request) -> Response:
        tenant = tenant_of(request)
        cut = query.read_cut(request.scope, extra=("purpose",), limit=LIST_MAX, limit_max=LIST_MAX)
        page = await files.page(tenant, cut, query.one(request.scope, "purpose"))
        return answer_of(list_of([file_object(f) for f in page.files], has_more=page.has_more))

    @routes.get("/{file_id}")
    async def retrieve(request: Request, file_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        return answer_of(file_object(await files.get(tenant, file_id)))

    @routes.get("/{file_id}/content")
    async def content(request: Request, file_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        record, path = await files.path(tenant, file_id)
        return FileResponse(
            path,
            media_type="application/octet-stream",
            filename=record.filename,
            headers={"x-content-type-options": "nosniff"},
        )

    @routes.delete("/{file_id}")
    async def delete(request: Request, file_id: str) -> Response:
        tenant = tenant_of(request)
        query.only(request.scope)
        await files.delete(tenant, file_id)
        return answer_of({"id": file_id, "object": "file", "deleted": True})

    return routes
