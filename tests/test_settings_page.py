"""`docs/settings.md` says what `config.TABLE` says; `python -m tests.test_settings_page` writes it anew."""

from pathlib import Path

from spanrelay.config import TABLE, Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

HEAD = """\
# Settings

Every setting is an environment variable. OpenTelemetry's own (`OTEL_*`) do what OpenTelemetry says: endpoints,
samplers, resource attributes, batch sizes. `OTEL_EXPORTER_OTLP_PROTOCOL` is `http/protobuf` unless you set it. A value
that is not valid is named in one error; that part is then off, and the program runs on.

| Variable | May be | Default | |
|---|---|---|---|
"""


def shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def page() -> str:
    defaults = Settings()
    rows = [
        f"| `{row.variable}` | {row.choices} | {shown(getattr(defaults, row.field))} | {row.meaning} |\n"
        for row in TABLE
    ]
    return HEAD + "".join(rows)


def test_the_settings_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page()


def test_every_field_of_the_settings_has_a_row() -> None:
    assert sorted(row.field for row in TABLE) == sorted(Settings.__dataclass_fields__)


if __name__ == "__main__":
    PAGE.write_text(page())
