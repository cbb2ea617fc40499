/** The server's OpenAI-shaped API, as this page uses it. */

import { Fault, refusal } from "./faults.js";
import { serverSentEvents } from "./sse.js";

/** Reads an address of the server as JSON. */
export async function getJson(path, key) {
  const response = await fetch(path, { headers: authorized(key) });
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/**
 * Asks for a chat completion, as a stream.
 *
 * @param {object} body of `/v1/chat/completions`.
 * @param {{key: string, signal: AbortSignal}} how
 * @yields {{kind: "reasoning" | "content" | "audio" | "finish", value: string}} what comes, piece by piece.
 */
export async function* chat(body, { key, signal }) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...authorized(key) },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!response.ok) throw await refusal(response);
  for await (const data of serverSentEvents(response.body)) {
    signal.throwIfAborted(); // what had come before the user stopped is not shown any more
    if (data === "[DONE]") return;
    yield* pieces(JSON.parse(data));
  }
  throw new Fault("The connection ended before the answer did. Try again.");
}

function* pieces(chunk) {
  if (chunk.error) throw new Fault(chunk.error.message);
  for (const { delta, finish_reason: finish } of chunk.choices ?? []) {
    if (delta?.reasoning_content) yield { kind: "reasoning", value: delta.reasoning_content };
    if (delta?.content) yield { kind: "content", value: delta.content };
    if (delta?.audio?.data) yield { kind: "audio", value: delta.audio.data };
    if (finish) yield { kind: "finish", value: finish };
  }
}

function authorized(key) {
  return key ? { Authorization: `Bearer ${key}` } : {};
}
