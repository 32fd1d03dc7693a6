// The weather agent in Go, with OpenAI's own SDK. OPENAI_BASE_URL names the gateway; nothing else is of SpanRelay.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

var weather = map[string]string{"San Francisco": "18 °C, fog", "New York": "25 °C, sun"}

var tool = openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
	Name:        "get_weather",
	Description: openai.String("The current weather in a city."),
	Parameters: openai.FunctionParameters{
		"type":       "object",
		"properties": map[string]any{"city": map[string]any{"type": "string"}},
		"required":   []string{"city"},
	},
})

func or(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func runTool(arguments string) string {
	var asked struct{ City string }
	if err := json.Unmarshal([]byte(arguments), &asked); err != nil {
		return "Error: " + err.Error()
	}
	if found, ok := weather[asked.City]; ok {
		return found
	}
	return "Error: no weather station in " + asked.City
}

func turn(client openai.Client, asked *openai.ChatCompletionNewParams, question string) error {
	asked.Messages = append(asked.Messages, openai.UserMessage(question))
	for {
		answer, err := client.Chat.Completions.New(context.Background(), *asked)
		if err != nil {
			return err
		}
		message := answer.Choices[0].Message
		asked.Messages = append(asked.Messages, message.ToParam())
		if len(message.ToolCalls) == 0 {
			fmt.Println(message.Content)
			return nil
		}
		for _, call := range message.ToolCalls {
			asked.Messages = append(asked.Messages, openai.ToolMessage(runTool(call.Function.Arguments), call.ID))
		}
	}
}

func main() {
	client := openai.NewClient(option.WithHeader("session.id", or("SESSION", "weather-in-go")))
	asked := openai.ChatCompletionNewParams{
		Model: or("OPENAI_MODEL", "gpt-5-mini"),
		Tools: []openai.ChatCompletionToolUnionParam{tool},
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage("You answer questions about the weather, in one or two sentences."),
		},
	}
	for _, question := range []string{"What is the weather in San Francisco and in New York?", "And in Atlantis?"} {
		if err := turn(client, &asked, question); err != nil {
			var refused *openai.Error
			if errors.As(err, &refused) { // whose own text is the status alone
				err = errors.New(refused.Message)
			}
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
