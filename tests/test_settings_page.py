"""`docs/settings.md` says what `config.TABLE` says; `python -m tests.test_settings_page` writes it anew."""

from pathlib import Path

from spanrelay.config import TABLE, Settings, default_of

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

HEAD = """\
# Settings

```bash
SPANRELAY_TRAJECTORY_DIR=runs SPANRELAY_METRICS=false opentelemetry-instrument python app.py
ls runs/*.json
```

Every setting is an environment variable. OpenTelemetry's own (`OTEL_*`) do what OpenTelemetry says: endpoints,
samplers, resource attributes, batch sizes. `OTEL_EXPORTER_OTLP_PROTOCOL` is `http/protobuf` unless you set it.

- One error names all values that are not valid. Under `opentelemetry-instrument` it also says what is used instead, and
  the program runs on; `spanrelay.activate()` raises it as `ConfigurationError`.
- `1`, `0`, `yes` and `no` mean `true` and `false`, or `on` and `off`, except in `OTEL_SDK_DISABLED`, which the SDK
  reads.
- In code, `spanrelay.activate(spanrelay.Settings(…))` takes the same values by the second name of each row.
  `SPANRELAY_CONFIG` applies there too, unless `config_file` is given: a program cannot leave policy out.
- `activate(tracer_provider=provider)` records into that provider what has no provider of its own: scopes, managed calls
  and instrumentors. Of several, the one named last is used until it is shut down; then the one before it is used again.

| Variable, name in code | May be | Default | |
|---|---|---|---|
"""


def page() -> str:
    rows = [
        f"| `{row.variable}`<br>`{row.field}` | {row.choices} | {default_of(row.field) or 'unset'} | {row.meaning} |\n"
        for row in TABLE
    ]
    return HEAD + "".join(rows)


def test_the_settings_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page()


def test_every_field_of_the_settings_has_a_row() -> None:
    assert sorted(row.field for row in TABLE) == sorted(Settings.__dataclass_fields__)


def test_every_default_is_shown_as_a_user_may_write_it() -> None:
    defaults = Settings()
    for row in TABLE:
        shown = default_of(row.field)
        assert (row.read(shown) if shown else "") == getattr(defaults, row.field), row.field
        if "," in row.choices:
            assert shown in row.choices, row.field


if __name__ == "__main__":
    PAGE.write_text(page())
