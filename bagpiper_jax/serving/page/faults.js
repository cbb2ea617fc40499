/** What went wrong, in words that tell what to do. */
export class Fault extends Error {}

/** A fault of HTTP; its status decides what the page says. */
export class Refusal extends Fault {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const UNREACHABLE = "The server cannot be reached. Is it still running?";

/** Any error as a sentence; "" for one that the user caused by stopping. */
export function inWords(error) {
  if (error instanceof Fault) return error.message;
  if (error?.name === "AbortError") return "";
  // A fetch or a body that breaks off is a TypeError, whatever the reason.
  if (error instanceof TypeError && /fetch|network|load failed/i.test(error.message)) return UNREACHABLE;
  console.error(error);
  return `The page failed: ${error?.message ?? error}`;
}

/** The sentence for a response that is no success. */
export async function refusal(response) {
  if (response.status === 401) return new Refusal(401, "The API key is missing or wrong; enter it under Settings.");
  let told = "";
  try {
    told = (await response.json()).error.message;
  } catch {
    // A proxy answers with a page of its own; the status has to do.
  }
  return new Refusal(response.status, told + advice(response, told));
}

function advice(response, told) {
  const { status } = response;
  const wait = response.headers.get("Retry-After");
  if (status === 429 || status === 503) {
    // What the server tells may say it already.
    return /again/.test(told) ? "" : `${told ? "." : "The server is busy."} Try again ${wait ? `in ${wait} s` : "in a moment"}.`;
  }
  return told ? "" : `The server answered with status ${status}.`;
}
