/**
 * Server-sent events of a response's body, as the OpenAI API sends them.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @yields {string} the data of one event.
 */
export async function* serverSentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
        if (line || !data.length) continue;
        yield data.join("\n");
        data = [];
      }
    }
  } finally {
    // Who leaves early lets the server know, which frees the model's row.
    reader.cancel().catch(() => {});
  }
}
