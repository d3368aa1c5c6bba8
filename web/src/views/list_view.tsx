// A list that the server ranks, with its filter.

import type { ComponentChildren } from "preact";
import type { Rows } from "../api/types.ts";
import { Filter } from "../parts/controls.tsx";
import { Empty } from "../parts/panel.tsx";
import { type Column, shownOf, Table } from "../parts/table.tsx";
import { steer, type ViewProps } from "./view.ts";
import { Waiting } from "./waiting.tsx";

interface ListProps<Row> extends ViewProps {
  title: string;
  noun: string;
  about: string;
  rows: Rows<Row> | undefined;
  columns: readonly Column<Row>[];
  id: (row: Row) => string;
  none: string;
  children?: ComponentChildren;
}

const BY_DEFAULT = "cpu";

export function ListView<Row>({ route, live, title, noun, about, rows, columns, id, none, children }: ListProps<Row>) {
  const sort = route.query.sort ?? BY_DEFAULT;
  const search = route.query.search ?? "";
  return (
    <>
      <header class="view-head">
        <h1>{title}</h1>
        <p class="note" role={search === "" ? undefined : "status"}>
          {rows && shownOf(rows.rows.length, rows.total, noun)}
          {rows && search !== "" && " that match"}
        </p>
        {children}
        <Filter label={`Filter ${noun}s by name`} value={search} onChange={(search) => steer(route, { search })} />
      </header>
      {rows === undefined ? (
        <Waiting live={live} />
      ) : rows.total === 0 ? (
        <Empty>{search === "" ? none : `No ${noun} has “${search}” in its name.`}</Empty>
      ) : (
        <section class="panel flush" aria-busy={!live.isCurrent}>
          <Table caption={`${title}, ${about}`} {...{ columns, id, sort }} rows={rows.rows} onSort={(sort) => steer(route, { sort: sort === BY_DEFAULT ? "" : sort })} />
        </section>
      )}
      {rows !== undefined && rows.rows.length < rows.total && <p class="note below">Those that come first in this order are shown. The filter finds the others.</p>}
    </>
  );
}
