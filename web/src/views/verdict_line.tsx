import { Glyph } from "../parts/glyph.tsx";
import { Words } from "../parts/text.tsx";
import type { Overview } from "../api/types.ts";
import { verdict } from "../words/verdict.ts";

/** The pool in one sentence. */
export function VerdictLine({ overview }: { overview: Overview }) {
  const { sign, headline, more } = verdict(overview);
  return (
    <div class={`verdict is-${sign}`}>
      <Glyph of={sign} />
      <div>
        <p class="headline" role="status">
          <Words text={headline} />
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
