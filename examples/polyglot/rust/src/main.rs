// The weather agent in Rust, with async-openai. OPENAI_BASE_URL names the gateway; nothing else is of SpanRelay.
use std::env::var;
use std::error::Error;

use async_openai::{Client, config::OpenAIConfig};
use serde_json::{Value, json};

fn run_tool(call: &Value) -> Value {
    let arguments = call["function"]["arguments"].as_str().unwrap_or("{}");
    let asked: Value = serde_json::from_str(arguments).unwrap_or_default();
    let city = asked["city"].as_str().unwrap_or("nowhere");
    let content = match city {
        "San Francisco" => "18 °C, fog".to_string(),
        "New York" => "25 °C, sun".to_string(),
        _ => format!("Error: no weather station in {city}"),
    };
    json!({"role": "tool", "tool_call_id": call["id"], "content": content})
}

async fn turn(client: &Client<OpenAIConfig>, asked: &mut Value, question: &str) -> Result<(), Box<dyn Error>> {
    let messages = |asked: &mut Value, message: Value| asked["messages"].as_array_mut().unwrap().push(message);
    messages(asked, json!({"role": "user", "content": question}));
    loop {
        let answer: Value = client.chat().create_byot(&*asked).await?;
        let message = &answer["choices"][0]["message"];
        messages(asked, message.clone());
        let Some(calls) = message["tool_calls"].as_array().filter(|calls| !calls.is_empty()) else {
            println!("{}", message["content"].as_str().unwrap_or_default());
            return Ok(());
        };
        for call in calls {
            messages(asked, run_tool(call));
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let session = var("SESSION").unwrap_or("weather-in-rust".to_string());
    let mut config = OpenAIConfig::new().with_header("session.id", session)?;
    if let Ok(url) = var("OPENAI_BASE_URL") {
        config = config.with_api_base(url);
    }
    let client = Client::with_config(config);
    let mut asked = json!({
        "model": var("OPENAI_MODEL").unwrap_or("gpt-5-mini".to_string()),
        "messages": [{"role": "system", "content": "You answer questions about the weather, in one or two sentences."}],
        "tools": [{"type": "function", "function": {
            "name": "get_weather",
            "description": "The current weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }}],
    });
    turn(&client, &mut asked, "What is the weather in San Francisco and in New York?").await?;
    turn(&client, &mut asked, "And in Atlantis?").await
}
