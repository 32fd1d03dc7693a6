// The weather agent in Node, with OpenAI's own SDK. OPENAI_BASE_URL names the gateway; nothing else is of SpanRelay.
import OpenAI from "openai";

const model = process.env.OPENAI_MODEL ?? "gpt-5-mini";
const weather = { "San Francisco": "18 °C, fog", "New York": "25 °C, sun" };
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The current weather in a city.",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];
const client = new OpenAI({ defaultHeaders: { "session.id": process.env.SESSION ?? "weather-in-node" } });
const messages = [{ role: "system", content: "You answer questions about the weather, in one or two sentences." }];

function runTool(call) {
  const { city } = JSON.parse(call.function.arguments);
  const content = weather[city] ?? `Error: no weather station in ${city}`;
  return { role: "tool", tool_call_id: call.id, content };
}

async function turn(question) {
  messages.push({ role: "user", content: question });
  for (;;) {
    const answer = (await client.chat.completions.create({ model, messages, tools })).choices[0].message;
    messages.push(answer);
    if (!answer.tool_calls?.length) return console.log(answer.content);
    messages.push(...answer.tool_calls.map(runTool));
  }
}

try {
  await turn("What is the weather in San Francisco and in New York?");
  await turn("And in Atlantis?");
} catch (error) {
  console.error(String(error));
  process.exitCode = 1;
}
