/** What is asked of `/v1/chat/completions`. Settings that were left empty are not sent: the server has its own. */

/** A caption of a clip, or the answer to a question about it. @param {string} clip a WAV file in base64 */
export function aboutClip(clip, question, settings) {
  const content = [{ type: "input_audio", input_audio: { data: clip, format: "wav" } }];
  if (question) content.push({ type: "text", text: question });
  return { messages: [{ role: "user", content }], ...shared(settings) };
}

/** A sound for a request, with reasoning and caption before it. */
export function soundFor(request, settings) {
  const { audio_temperature: temperature, guidance, max_seconds } = settings;
  return {
    messages: [{ role: "user", content: request }],
    modalities: ["text", "audio"],
    audio: { format: "pcm16", temperature, guidance, max_seconds },
    ...shared(settings),
  };
}

/** A sound for a caption that is finished: the model is told that it has written it, so the sound comes next. */
export function soundOf(caption, settings) {
  const request = soundFor(caption, settings);
  request.messages.push({ role: "assistant", content: caption });
  return request;
}

function shared({ temperature, top_k, seed, max_completion_tokens }) {
  return { temperature, top_k, seed, max_completion_tokens };
}
