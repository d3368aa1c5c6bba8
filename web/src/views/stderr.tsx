// What a worker writes to stderr, as it comes. It is text of a stranger: shown, and never obeyed.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { follow, type StreamState } from "../api/follow.ts";
import { Empty, Panel } from "../parts/panel.tsx";
import { visible } from "../words/escape.ts";
import { count, duration } from "../words/format.ts";

const ASKED = 200;
/** Lines that are shown; those before go. */
const KEPT = 500;
const DRAWN_EVERY_MS = 250;

export function Stderr({ id, isGone }: { id: string; isGone: boolean }) {
  const { lines, cut, state } = useLines(id, isGone);
  const [isFollowing, setFollowing] = useState(true);
  const frame = useRef<HTMLPreElement>(null);
  useLayoutEffect(() => {
    if (isFollowing && frame.current) frame.current.scrollTop = frame.current.scrollHeight;
  }, [lines, isFollowing]);
  const scrolled = () => {
    const element = frame.current;
    if (element) setFollowing(element.scrollHeight - element.scrollTop - element.clientHeight < 24);
  };
  const note = isGone || state.kind === "over" ? "the last lines before its end" : state.kind === "live" ? "live" : state.kind === "lost" ? `not live: ${state.why}, tried again in ${duration(Math.max(0, Math.round((state.retryAt - Date.now()) / 1e3)))}` : "connecting";
  return (
    <Panel title="Stderr" note={note}>
      {lines.length === 0 ? (
        <Empty>{isGone ? "It wrote nothing, or that is not kept any more." : "It has written nothing yet."}</Empty>
      ) : (
        <pre ref={frame} class="stderr" tabIndex={0} role="log" aria-label={`Stderr of ${id}`} onScroll={scrolled}>
          {lines.map((line) => (
            <div key={line.n}>{line.text === "" ? " " : line.text}</div>
          ))}
        </pre>
      )}
      {cut > 0 && <p class="note below">{count(cut)} lines before these are not shown: stdiopool logs {id} has those that are kept.</p>}
      {!isFollowing && (
        <button type="button" class="button small" onClick={() => setFollowing(true)}>
          Go to the newest line
        </button>
      )}
    </Panel>
  );
}

interface Line {
  n: number;
  text: string;
}

function useLines(id: string, isGone: boolean): { lines: readonly Line[]; cut: number; state: StreamState } {
  const [drawn, setDrawn] = useState({ lines: [] as readonly Line[], cut: 0 });
  const [state, setState] = useState<StreamState>({ kind: "connecting" });
  const gone = useRef(isGone);
  gone.current = isGone;
  useEffect(() => {
    let lines: Line[] = [];
    let n = 0;
    let cut = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const draw = () => {
      timer = undefined;
      setDrawn({ lines: [...lines], cut });
    };
    const add = (text: string) => {
      lines.push({ n: n++, text });
      if (lines.length > KEPT) cut += lines.splice(0, lines.length - KEPT).length;
      timer ??= setTimeout(draw, DRAWN_EVERY_MS);
    };
    const stop = follow({
      // That of a worker that is gone has ended with it; any other was closed for one that was opened later.
      again: () => !gone.current,
      path: () => {
        // The last lines are told anew: those from before would stand there twice.
        lines = [];
        cut = 0;
        return `api/v1/workers/${encodeURIComponent(id)}/logs?follow=true&lines=${ASKED}`;
      },
      onState: setState,
      onEvent: ({ type, data }) => {
        if (type === "lagged") add(`… ${data} lines came too fast to be told …`);
        else if (type === "message") add(visible((JSON.parse(data) as { line: string }).line));
      },
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [id]);
  return { ...drawn, state };
}
