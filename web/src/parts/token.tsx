// Asks for the admin token. It stays in this tab.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, hasToken, setToken } from "../api/client.ts";

export function Token({ onToken }: { onToken: () => void }) {
  const input = useRef<HTMLInputElement>(null);
  const [error, setError] = useState(hasToken() ? "The token of this tab is not accepted any more." : "");
  useEffect(() => input.current?.focus(), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    const given = input.current?.value.trim() ?? "";
    // What no header may hold is no token.
    if (!/^[\x21-\x7e]+$/.test(given)) return setError("A token is written in letters, digits and signs, without blanks.");
    setToken(given);
    try {
      await get("api/v1/status");
      onToken();
    } catch (error) {
      setToken(null);
      const isWrong = error instanceof ApiError && error.status === 401;
      setError(isWrong ? "This is not the token of [admin] token." : error instanceof Error ? error.message : `${error}`);
      input.current?.select();
    }
  };
  return (
    <form class="token panel" onSubmit={(event) => void submit(event)}>
      <h1>This stdiopool asks for its admin token</h1>
      <p>
        It is what <code>[admin] token</code> of pool.toml leads to. This tab keeps it until it is closed, and sends it to this stdiopool alone.
      </p>
      <label for="token">Admin token</label>
      <input ref={input} id="token" type="password" autocomplete="off" spellcheck={false} aria-describedby="token-error" />
      <p id="token-error" class="is-bad" role="alert">
        {error}
      </p>
      <button type="submit" class="button strong">
        Open the dashboard
      </button>
    </form>
  );
}
