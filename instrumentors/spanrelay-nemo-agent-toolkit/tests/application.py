"""Functions for workflows, as an application registers them."""

from collections.abc import AsyncGenerator

from nat.builder.builder import Builder
from nat.builder.context import Context
from nat.builder.function_info import FunctionInfo
from nat.cli.register_workflow import register_function
from nat.data_models.component_ref import FunctionRef
from nat.data_models.function import FunctionBaseConfig
from nat.data_models.interactive import HumanPromptText
from nat.data_models.intermediate_step import IntermediateStepPayload, IntermediateStepType

asked: list[str] = []


class Weather(FunctionBaseConfig, name="test_weather"):
    """No settings."""


class Report(FunctionBaseConfig, name="test_report"):
    function: FunctionRef


@register_function(config_type=Weather)
async def weather(config: Weather, builder: Builder) -> AsyncGenerator[FunctionInfo]:
    async def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        if city == "Atlantis":
            raise OSError("no station there")
        return f"sunny in {city}"

    yield FunctionInfo.from_fn(get_weather, description="The weather of a city.")


@register_function(config_type=Report)
async def report(config: Report, builder: Builder) -> AsyncGenerator[FunctionInfo]:
    function = await builder.get_function(config.function)

    async def once(city: str) -> str:
        manager = Context.get().intermediate_step_manager
        if city == "ask":
            answer = await Context.get().user_interaction_manager.prompt_user_input(HumanPromptText(text="Where?"))
            city = answer.content.text
        for kind in (IntermediateStepType.CUSTOM_START, IntermediateStepType.CUSTOM_END):
            manager.push_intermediate_step(IntermediateStepPayload(UUID="1", event_type=kind, name="look"))
        return f"Report: {await function.ainvoke(city)}"

    async def parts(city: str) -> AsyncGenerator[str]:
        yield "Report: "
        yield await function.ainvoke(city)

    yield FunctionInfo.create(single_fn=once, stream_fn=parts, description="A report.")
