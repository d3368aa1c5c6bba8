// Requests to the admin API of the supervisor that served this page.

const TOKEN = "stdiopool-admin-token";

/** An answer of the API that is a refusal, or none at all. */
export class ApiError extends Error {
  readonly status: number;
  /** `reason` of the answer; `unreachable` where nobody answered. */
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

type Listener = () => void;
const unauthorized = new Set<Listener>();

/** Calls `listener` whenever the API wants a token, or another one. */
export function onUnauthorized(listener: Listener): Listener {
  unauthorized.add(listener);
  return () => unauthorized.delete(listener);
}

/** The token goes with this tab: it is kept in its session storage and nowhere else. */
export function setToken(token: string | null): void {
  if (token === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, token);
}

export function hasToken(): boolean {
  return sessionStorage.getItem(TOKEN) !== null;
}

/**
 * The answer to a request, whose status is a success.
 *
 * @throws ApiError; an `AbortError` when `signal` ends it.
 */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token !== null) headers.set("authorization", `Bearer ${token}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, cache: "no-store", credentials: "same-origin", redirect: "error" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "stdiopool does not answer");
  }
  if (response.ok) return response;
  if (response.status === 401) for (const listener of unauthorized) listener();
  throw await refusal(response);
}

async function refusal(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  try {
    const body: unknown = JSON.parse(text);
    if (body !== null && typeof body === "object" && "error" in body && typeof body.error === "string") {
      const reason = "reason" in body && typeof body.reason === "string" ? body.reason : "unknown";
      return new ApiError(response.status, reason, body.error);
    }
  } catch {
    // Not the API, but something in front of it: its status is all there is to say.
  }
  return new ApiError(response.status, "unknown", `the answer has status ${response.status}`);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await request(path, signal ? { signal } : {});
  return (await response.json()) as T;
}

/** Carries out an action, and returns what the API says of it. */
export async function act(path: string): Promise<string> {
  const response = await request(path, { method: "POST" });
  const { message } = (await response.json()) as { message: string };
  return message;
}
