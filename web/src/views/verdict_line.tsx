import { useRef } from "preact/hooks";
import { Glyph } from "../parts/glyph.tsx";
import { Words } from "../parts/text.tsx";
import type { Overview } from "../api/types.ts";
import { line } from "../words/escape.ts";
import { verdict } from "../words/verdict.ts";

/** The pool in one sentence. */
export function VerdictLine({ overview }: { overview: Overview }) {
  const { sign, headline, more } = verdict(overview);
  // Numbers in it change all the time: a screen reader is told when it becomes better or worse.
  const told = useRef({ sign, headline });
  if (told.current.sign !== sign) told.current = { sign, headline };
  return (
    <div class={`verdict is-${sign}`}>
      <Glyph of={sign} />
      <div>
        <p class="headline">
          <Words text={headline} />
        </p>
        <p class="unseen" role="status">
          {line(told.current.headline)}
        </p>
        {more.map((text) => (
          <p key={text}>
            <Words text={text} />
          </p>
        ))}
      </div>
    </div>
  );
}
