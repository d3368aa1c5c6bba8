// Server-sent events out of a stream of bytes, as the HTML standard reads them (9.2.6); `EventSource` cannot send a token.

export interface ServerEvent {
  /** `message` where the stream names none. */
  type: string;
  data: string;
}

/** Most characters of an event that is not complete yet; more is no stream of stdiopool's. */
const MAX_PENDING = 16 * 1024 * 1024;

/** Takes pieces of text, and gives the events that are complete. */
export class EventReader {
  #pending = "";
  #type = "";
  #data: string[] = [];

  /** @throws when the stream holds no events, but one endless line. */
  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    this.#pending += text;
    let from = 0;
    for (;;) {
      const end = this.#pending.indexOf("\n", from);
      if (end < 0) break;
      const line = this.#pending.slice(from, end).replace(/\r$/, "");
      from = end + 1;
      const event = this.#line(line);
      if (event) events.push(event);
    }
    this.#pending = this.#pending.slice(from);
    if (this.#pending.length > MAX_PENDING) throw new Error("an event of the stream is too long");
    return events;
  }

  #line(line: string): ServerEvent | undefined {
    if (line === "") {
      const data = this.#data.join("\n");
      const event = this.#data.length > 0 ? { type: this.#type || "message", data } : undefined;
      this.#type = "";
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    if (field === "event") this.#type = value;
    return undefined;
  }
}
