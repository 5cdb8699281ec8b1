// Follows an event stream for ever with a client of others and prints each event as a JSON line.
// node follow.mjs CLIENT URL SILENCE_MS NAME...: ends when nothing came for that long.
import { EventSource } from "eventsource";
import { EventSourceParserStream } from "eventsource-parser/stream";

const [client, url, silence, ...names] = process.argv.slice(2);
const PAUSE_MS = 50;
let watch;

function tell(id, name, data) {
  clearTimeout(watch);
  watch = setTimeout(() => process.exit(0), Number(silence));
  process.stdout.write(`${JSON.stringify([id, name, data])}\n`);
}

/** The client comes back by itself, after the time that the server named. */
function withEventSource() {
  const source = new EventSource(url);
  for (const name of names) {
    source.addEventListener(name, (event) => tell(event.lastEventId, event.type, event.data));
  }
}

/** The parser knows no connections: here is the loop that its documents leave to the user. */
async function withParser() {
  let lastId = "";
  for (;;) {
    try {
      const answer = await fetch(url, { headers: lastId ? { "Last-Event-ID": lastId } : {} });
      const events = answer.body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream());
      for await (const event of events) {
        lastId = event.id ?? lastId;
        tell(lastId, event.event ?? "message", event.data);
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // a cut connection, or nobody there
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

const followers = { eventsource: withEventSource, "eventsource-parser": withParser };
await followers[client]();
