// The address of a view, in the part after `#`: `#/tenants?sort=memory&search=acme`.

export const PAGES = ["overview", "workers", "tenants", "servers", "requests", "events"] as const;
export type Page = (typeof PAGES)[number];

export interface Route {
  page: Page;
  /** One of them: a worker, tenant or server. */
  id: string | null;
  query: Record<string, string>;
}

export function parse(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [name = "", ...rest] = path.split("/");
  const page = PAGES.find((page) => page === name) ?? "overview";
  return { page, id: rest.length > 0 ? decoded(rest.join("/")) || null : null, query: Object.fromEntries(new URLSearchParams(search)) };
}

export function address(page: Page, id: string | null = null, query: Record<string, string> = {}): string {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  const path = page === "overview" ? "" : page;
  return `#/${path}${id === null ? "" : `/${encodeURIComponent(id)}`}${search === "" ? "" : `?${search}`}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What the view at `route` wants of `/api/v1/overview`. */
export function wanted({ page, id, query }: Route): Record<string, string> {
  const rows = { sort: query.sort ?? "", search: query.search ?? "" };
  switch (page) {
    case "tenants":
      return id === null ? { ...rows, limit: "100" } : { tenant: id, limit: "50" };
    case "servers":
      return id === null ? { ...rows, limit: "100" } : { server: id, limit: "50" };
    case "workers":
      return id === null ? { ...rows, limit: "100", tenant: query.tenant ?? "", server: query.server ?? "" } : { limit: "1" };
    case "overview":
      return { limit: "8" };
    case "requests":
    case "events":
      return { limit: "1" };
  }
}
