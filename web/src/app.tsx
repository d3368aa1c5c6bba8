// The frame of all views: where one is, whether what is shown is live, and the one stream that it is live by.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { onUnauthorized } from "./api/client.ts";
import { Connection } from "./parts/connection.tsx";
import { useNow } from "./parts/live.ts";
import { useOverview } from "./parts/overview_stream.ts";
import { Token } from "./parts/token.tsx";
import { ThemeButton } from "./parts/theme_button.tsx";
import { EventsView } from "./views/events.tsx";
import { OverviewView } from "./views/overview.tsx";
import { RequestsView } from "./views/requests.tsx";
import { ServerView } from "./views/server.tsx";
import { ServersView } from "./views/servers.tsx";
import { TenantView } from "./views/tenant.tsx";
import { TenantsView } from "./views/tenants.tsx";
import type { ViewProps } from "./views/view.ts";
import { WorkerView } from "./views/worker.tsx";
import { WorkersView } from "./views/workers.tsx";
import { address, PAGES, type Page, parse, type Route, wanted } from "./words/route.ts";

const TITLES: Record<Page, string> = {
  overview: "Overview",
  workers: "Workers",
  tenants: "Tenants",
  servers: "Servers",
  requests: "Requests",
  events: "Events",
};

export function App() {
  const route = useRoute();
  const [needsToken, setNeedsToken] = useState(false);
  const [version, setVersion] = useState(0);
  const live = useOverview(wanted(route), version);
  const now = useNow();
  const main = useRef<HTMLElement>(null);
  useEffect(() => onUnauthorized(() => setNeedsToken(true)), []);
  useShortcuts();
  const title = route.id ?? TITLES[route.page];
  useEffect(() => {
    document.title = `${title} · stdiopool`;
  }, [title]);
  // Another view begins at its top, for the eye and for the keyboard; before anybody can have gone on in it.
  const place = `${route.page}/${route.id ?? ""}`;
  const before = useRef(place);
  useLayoutEffect(() => {
    if (before.current === place) return;
    before.current = place;
    scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [place]);

  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href="#/">
          <Logo />
          stdiopool
        </a>
        <nav aria-label="Views">
          {PAGES.map((page) => (
            <a key={page} href={address(page)} aria-current={page === route.page ? "page" : undefined}>
              {TITLES[page]}
            </a>
          ))}
        </nav>
        <div class="top-end">
          <Connection live={live} now={now} />
          <ThemeButton />
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {needsToken ? (
          <Token
            onToken={() => {
              setNeedsToken(false);
              setVersion((n) => n + 1);
            }}
          />
        ) : (
          <View route={route} live={live} now={live.overview ? live.overview.at_ms + (now - live.heardAt) : now} />
        )}
      </main>
      <footer class="bottom">
        {live.overview && <>stdiopool {live.overview.status.version}</>}
        <span>
          <kbd>/</kbd> filter
        </span>
        <span>
          <kbd>g</kbd> then <kbd>o</kbd> <kbd>w</kbd> <kbd>t</kbd> <kbd>s</kbd> <kbd>r</kbd> <kbd>e</kbd> views
        </span>
      </footer>
    </>
  );
}

function View(props: ViewProps) {
  const { page, id } = props.route;
  switch (page) {
    case "overview":
      return <OverviewView {...props} />;
    case "workers":
      return id === null ? <WorkersView {...props} /> : <WorkerView key={id} id={id} {...props} />;
    case "tenants":
      return id === null ? <TenantsView {...props} /> : <TenantView key={id} name={id} {...props} />;
    case "servers":
      return id === null ? <ServersView {...props} /> : <ServerView key={id} name={id} {...props} />;
    case "requests":
      return <RequestsView {...props} />;
    case "events":
      return <EventsView {...props} />;
  }
}

function Logo() {
  return (
    <svg viewBox="0 0 16 16" aria-hidden="true">
      <rect width="16" height="16" rx="4" />
      <path d="M4 4.5h8M4 8h5.5M4 11.5h3" />
    </svg>
  );
}

function useRoute(): Route {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = () => setRoute(parse(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

/** `/` leads to the filter, `g` and a letter to a view; never while somebody writes. */
function useShortcuts(): void {
  useEffect(() => {
    let isGoing = false;
    const pressed = (event: KeyboardEvent) => {
      const at = event.target;
      const isWriting = at instanceof HTMLInputElement || at instanceof HTMLTextAreaElement;
      if (isWriting || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (event.key === "/") {
        const field = document.getElementById("filter");
        if (field === null) return;
        event.preventDefault();
        field.focus();
      } else if (isGoing) {
        const page = PAGES.find((page) => page.startsWith(event.key));
        if (page) location.hash = address(page);
      }
      isGoing = event.key === "g" && !isGoing;
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}
