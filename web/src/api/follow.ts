// A stream of events that is opened again whenever it breaks.

import { ApiError, request } from "./client.ts";
import { EventReader, type ServerEvent } from "./sse.ts";

/** The server sends a comment at least every 15 s; a stream that is silent for longer than that is dead. */
const SILENT_MS = 40_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** A stream that lived for so long was none that fails: the next pause is the first again. */
const LIVED_MS = 10_000;

export type StreamState =
  | { kind: "connecting" }
  | { kind: "live" }
  /** Broken since then; tried again at the other time. */
  | { kind: "lost"; why: string; retryAt: number }
  /** The server refused it, or ended it for good. */
  | { kind: "over"; why: string };

export interface Following {
  /** Where the stream is, for each attempt. */
  path: () => string;
  onEvent: (event: ServerEvent) => void;
  onState: (state: StreamState) => void;
  /** Whether a stream that the server has ended properly is opened again. */
  again: () => boolean;
}

/** How long to wait before attempt `n` (from 0): twice as long each time, and by up to a quarter less, so that tabs spread. */
export function pause(n: number, random = Math.random()): number {
  const full = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(n, 10));
  return Math.round(full * (1 - random / 4));
}

/** Follows a stream until the returned function is called. */
export function follow({ path, onEvent, onState, again }: Following): () => void {
  const stop = new AbortController();
  void run();
  return () => stop.abort();

  async function run(): Promise<void> {
    for (let failures = 0; !stop.signal.aborted; ) {
      onState({ kind: "connecting" });
      const began = Date.now();
      let why = "the connection has ended";
      try {
        await read(path());
        if (stop.signal.aborted) return;
        if (!again()) return onState({ kind: "over", why: "" });
      } catch (error) {
        if (stop.signal.aborted) return;
        const status = error instanceof ApiError ? error.status : 0;
        why = error instanceof Error ? error.message : `${error}`;
        // Neither a wrong token nor a worker that is gone mends by itself.
        if (status === 401 || status === 404) return onState({ kind: "over", why });
      }
      if (Date.now() - began > LIVED_MS) failures = 0;
      await wait(why, failures++);
    }
  }

  async function wait(why: string, failures: number): Promise<void> {
    const ms = pause(failures);
    onState({ kind: "lost", why, retryAt: Date.now() + ms });
    await new Promise<void>((done) => {
      const timer = setTimeout(done, ms);
      stop.signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
    });
  }

  async function read(from: string): Promise<void> {
    const attempt = new AbortController();
    const end = () => attempt.abort();
    stop.signal.addEventListener("abort", end, { once: true });
    let isSilent = false;
    let timer = 0;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => ((isSilent = true), attempt.abort()), SILENT_MS) as unknown as number;
    };
    try {
      heard();
      const response = await request(from, { signal: attempt.signal, headers: { accept: "text/event-stream" } });
      if (!response.body) throw new Error("the stream has no body");
      onState({ kind: "live" });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const events = new EventReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        heard();
        for (const event of events.push(value)) onEvent(event);
      }
    } catch (error) {
      if (isSilent) throw new Error("nothing has come for 40 s");
      throw error;
    } finally {
      clearTimeout(timer);
      stop.signal.removeEventListener("abort", end);
      attempt.abort();
    }
  }
}
