"""`/v1/uploads`: large files, in parts."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from serve.admission.authenticate import Authenticator
from serve.api import query
from serve.api.body import ClientGone, JsonBodies
from serve.api.fields import faults
from serve.api.fields.files import UPLOAD_PART, check_complete, check_upload
from serve.api.files import Uploading, file_object
from serve.api.multipart import unflattened
from serve.api.objects import answer_of
from serve.state.files import FileRecord
from serve.state.uploads import UploadRecord, Uploads


def upload_object(record: UploadRecord, file: FileRecord | None = None) -> dict[str, Any]:
    """OpenAI's Upload object."""
    return {
        "id": record.id,
        "object": "upload",
        "bytes": record.size_bytes,
        "created_at": int(record.created_s),
        "expires_at": int(record.expires_s),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": record.status,
        "file": None if file is None else file_object(file),
    }


def router(
    uploads: Uploads, uploading: Uploading, authenticator: Authenticator, bodies: JsonBodies
) -> APIRouter:
    routes = APIRouter(prefix="/v1/uploads")

    def tenant_of(request: Request) -> str:
        tenant = authenticator.authenticate(request.scope["headers"], "files").tenant
        query.only(request.scope)
        return tenant

    @routes.post("")
    async def create(request: Request) -> Response:
        tenant = tenant_of(request)
        asked = check_upload(await bodies.read(request))
        most = int(uploading.bounds.upload_mib * 2**20)
        if asked.size_bytes > most:
            raise faults.above("bytes", "integer", most, asked.size_bytes)
        record = await uploads.add(
            tenant,
            purpose=asked.purpose,
            filename=asked.filename,
            mime_type=asked.mime_type,
            size_bytes=asked.size_bytes,
            keep_s=asked.keep_s,
        )
        return answer_of(upload_object(record))

    @routes.post("/{upload_id}/parts")
    async def add_part(request: Request, upload_id: str) -> Response:
        tenant = tenant_of(request)
        await uploads.pending(tenant, upload_id)
        incoming = uploads.begin()
        try:
            form = await uploading.part(request, incoming)
        except ClientGone:
            return Response(status_code=400)  # for nobody
        try:
            UPLOAD_PART.read(unflattened(form.fields))
        except BaseException:
            await incoming.discard()
            raise
        await uploads.keep(incoming, tenant, upload_id)
        return answer_of(
            {
                "id": incoming.id,
                "object": "upload.part",
                "created_at": int(time.time()),
                "upload_id": upload_id,
            }
        )

    @routes.post("/{upload_id}/complete")
    async def complete(request: Request, upload_id: str) -> Response:
        tenant = tenant_of(request)
        part_ids, md5 = check_complete(await bodies.read(request))
        record, file = await uploads.complete(tenant, upload_id, part_ids, md5)
        return answer_of(upload_object(record, file))

    @routes.post("/{upload_id}/cancel")
    async def cancel(request: Request, upload_id: str) -> Response:
        tenant = tenant_of(request)
        return answer_of(upload_object(await uploads.cancel(tenant, upload_id)))

    return routes
