// What a page hears when it asks how the gateway wants to be reached: the gateway's own answer,
// changed, and at once. A client does not wait for that answer for long, so on a busy machine a
// page that asked the gateway itself could take WebSocket before it heard of WebTransport.

/** The answer of a gateway, or of a relay before it. */
export async function discoveryOf({ url }) {
  return (await fetch(`${url}/.well-known/dormouse`)).json();
}

/**
 * Runs in a page: from now on `answer` is heard there, null as if nobody answered; without an
 * answer the gateway is asked again.
 */
export function hear(answer) {
  const ask = (window.askGateway ??= window.fetch);
  window.fetch = async (url, ...more) => {
    if (answer === undefined || !String(url).endsWith("/.well-known/dormouse")) return ask(url, ...more);
    if (answer === null) throw new TypeError("nobody answers");
    return Response.json(answer);
  };
}
