// The weather agent in Java, with OpenAI's own SDK. OPENAI_BASE_URL names the gateway; nothing else is of SpanRelay.
import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.models.FunctionDefinition;
import com.openai.models.FunctionParameters;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionFunctionTool;
import com.openai.models.chat.completions.ChatCompletionMessage;
import com.openai.models.chat.completions.ChatCompletionMessageFunctionToolCall;
import com.openai.models.chat.completions.ChatCompletionToolMessageParam;
import java.util.List;
import java.util.Map;

public class Weather {
    static final Map<String, String> WEATHER = Map.of("San Francisco", "18 °C, fog", "New York", "25 °C, sun");

    static final ChatCompletionFunctionTool TOOL = ChatCompletionFunctionTool.builder()
        .function(FunctionDefinition.builder()
            .name("get_weather")
            .description("The current weather in a city.")
            .parameters(FunctionParameters.builder()
                .putAdditionalProperty("type", JsonValue.from("object"))
                .putAdditionalProperty("properties", JsonValue.from(Map.of("city", Map.of("type", "string"))))
                .putAdditionalProperty("required", JsonValue.from(List.of("city")))
                .build())
            .build())
        .build();

    public static class Place {
        public String city;
    }

    static String runTool(ChatCompletionMessageFunctionToolCall.Function asked) {
        String city = asked.arguments(Place.class).city;
        return WEATHER.getOrDefault(city, "Error: no weather station in " + city);
    }

    static void turn(OpenAIClient client, ChatCompletionCreateParams.Builder asked, String question) {
        asked.addUserMessage(question);
        while (true) {
            ChatCompletionMessage answer = client.chat().completions().create(asked.build()).choices().get(0).message();
            asked.addMessage(answer);
            List<ChatCompletionMessageFunctionToolCall> calls = answer.toolCalls().orElse(List.of()).stream()
                .map(call -> call.asFunction())
                .toList();
            if (calls.isEmpty()) {
                System.out.println(answer.content().orElse(""));
                return;
            }
            for (ChatCompletionMessageFunctionToolCall call : calls) {
                asked.addMessage(ChatCompletionToolMessageParam.builder()
                    .toolCallId(call.id())
                    .content(runTool(call.function()))
                    .build());
            }
        }
    }

    static String or(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    public static void main(String[] arguments) {
        OpenAIClient client = OpenAIOkHttpClient.builder()
            .fromEnv()
            .putHeader("session.id", or("SESSION", "weather-in-java"))
            .build();
        ChatCompletionCreateParams.Builder asked = ChatCompletionCreateParams.builder()
            .model(or("OPENAI_MODEL", "gpt-5-mini"))
            .addTool(TOOL)
            .addSystemMessage("You answer questions about the weather, in one or two sentences.");
        try {
            turn(client, asked, "What is the weather in San Francisco and in New York?");
            turn(client, asked, "And in Atlantis?");
            System.exit(0);
        } catch (RuntimeException error) {
            System.err.println(error);
            System.exit(1);
        }
    }
}
