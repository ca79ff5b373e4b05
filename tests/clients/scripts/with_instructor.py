"""instructor in its modes that a server of OpenAI's API is asked by."""

from collections.abc import Iterator

import instructor
from checks import KEY, V1, run
from openai import OpenAI
from pydantic import BaseModel, field_validator

SDK = OpenAI(base_url=V1, api_key=KEY, max_retries=0)
OBJECT = '{"city":"Bern","degrees":21}'


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


class Cool(Report):
    """The same, where it is not hot."""

    @field_validator("degrees")
    @classmethod
    def not_hot(cls, degrees: int) -> int:
        # The engine reads the last directive, and this one comes back in the next prompt.
        if degrees > 30:
            raise ValueError('too hot: fake:say={"city":"Bern","degrees":21}')
        return degrees


def ask(mode: instructor.Mode, prompt: str) -> Report:
    client = instructor.from_openai(SDK, mode=mode)
    found = client.create(
        model="fake",
        messages=[{"role": "user", "content": prompt}],
        response_model=Report,
        max_retries=0,
    )
    assert isinstance(found, Report)
    return Report(**found.model_dump())  # a class of instructor's own comes back


def check_tools() -> None:
    found = ask(instructor.Mode.TOOLS, f"fake:arguments={OBJECT}")
    assert found == Report(city="Bern", degrees=21)


def check_tools_strict() -> None:
    found = ask(instructor.Mode.TOOLS_STRICT, f"fake:arguments={OBJECT}")
    assert found == Report(city="Bern", degrees=21)


def check_json_schema() -> None:
    found = ask(instructor.Mode.JSON_SCHEMA, f"fake:say={OBJECT}")
    assert found == Report(city="Bern", degrees=21)


def check_json() -> None:
    found = ask(instructor.Mode.JSON, f"fake:say={OBJECT}")
    assert found == Report(city="Bern", degrees=21)


def check_responses_tools() -> None:
    found = ask(instructor.Mode.RESPONSES_TOOLS, f"fake:arguments={OBJECT}")
    assert found == Report(city="Bern", degrees=21)


def check_partial_stream() -> None:
    client = instructor.from_openai(SDK, mode=instructor.Mode.JSON_SCHEMA)
    parts: Iterator[Report] = client.create_partial(
        model="fake",
        messages=[{"role": "user", "content": f"fake:say={OBJECT}"}],
        response_model=Report,
    )
    assert list(parts)[-1].degrees == 21


def check_asked_again_where_it_does_not_fit() -> None:
    client = instructor.from_openai(SDK, mode=instructor.Mode.JSON_SCHEMA)
    prompt = 'fake:say={"city":"Bern","degrees":40}'
    found = client.create(
        model="fake",
        messages=[{"role": "user", "content": prompt}],
        response_model=Cool,
        max_retries=2,
    )
    assert (found.city, found.degrees) == ("Bern", 21)


run(globals())
