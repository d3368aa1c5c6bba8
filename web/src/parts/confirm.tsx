// A question before something is done that cannot be taken back.

import { useEffect, useId, useRef, useState } from "preact/hooks";
import { act } from "../api/client.ts";
import { sentence } from "../words/verdict.ts";
import { Words } from "./text.tsx";

export interface Action {
  name: string;
  /** Of `POST`. */
  path: string;
  question: string;
  /** What happens then. */
  consequence: string;
  isDangerous?: boolean;
  isDisabled?: boolean;
  about?: string;
}

/** Buttons for actions. What the API answers is said beside them. */
export function Actions({ of, onDone }: { of: readonly Action[]; onDone?: () => void }) {
  const [asked, setAsked] = useState<Action | null>(null);
  const [said, setSaid] = useState<{ text: string; isError: boolean } | null>(null);
  const carryOut = async (action: Action) => {
    setAsked(null);
    setSaid(null);
    try {
      setSaid({ text: await act(action.path), isError: false });
    } catch (error) {
      setSaid({ text: error instanceof Error ? error.message : `${error}`, isError: true });
    }
    onDone?.();
  };
  return (
    <div class="actions">
      {of.map((action) => (
        <button
          key={action.name}
          type="button"
          class={action.isDangerous ? "button dangerous" : "button"}
          disabled={action.isDisabled}
          title={action.about}
          onClick={() => setAsked(action)}
        >
          {action.name}
        </button>
      ))}
      <p class={said?.isError ? "said is-bad" : "said"} role="status">
        {said && <Words text={sentence(said.text)} />}
      </p>
      {asked && <Question action={asked} onYes={() => void carryOut(asked)} onNo={() => setAsked(null)} />}
    </div>
  );
}

function Question({ action, onYes, onNo }: { action: Action; onYes: () => void; onNo: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={onNo}>
      <h2 id={id}>{action.question}</h2>
      <p>{action.consequence}</p>
      <div class="actions">
        <button type="button" class="button" onClick={onNo}>
          Cancel
        </button>
        <button type="button" class={action.isDangerous ? "button dangerous strong" : "button strong"} onClick={onYes}>
          {action.name}
        </button>
      </div>
    </dialog>
  );
}
