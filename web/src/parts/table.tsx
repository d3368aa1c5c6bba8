// Tables whose order the server keeps: a column's heading chooses it.

import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { count } from "../words/format.ts";

export interface Column<Row> {
  key: string;
  title: string;
  cell: (row: Row) => ComponentChildren;
  /** Numbers stand to the right. */
  isNumber?: boolean;
  /** What `sort=` of the API calls it. */
  sort?: string;
  /** Left out where there is little room. */
  isWide?: boolean;
  about?: string;
}

interface TableProps<Row> {
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  id: (row: Row) => string;
  sort?: string;
  onSort?: (sort: string) => void;
}

export function Table<Row>({ caption, columns, rows, id, sort, onSort }: TableProps<Row>) {
  const [shown, hold] = useHeldOrder(rows, id, sort);
  return (
    <div class="table-frame">
      <table>
        <caption class="unseen">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.key} scope="col" class={classes(column)} aria-sort={ariaSort(column.sort, sort)} title={column.about}>
                {column.sort !== undefined && onSort ? (
                  <button type="button" class="sort" onClick={() => onSort(column.sort ?? "")}>
                    {column.title}
                    <svg class="arrow" viewBox="0 0 8 8" aria-hidden="true">
                      <path d={column.sort === "name" ? "M1 6h6L4 1z" : "M1 2h6L4 7z"} />
                    </svg>
                  </button>
                ) : (
                  column.title
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody {...hold}>
          {shown.map((row) => (
            <tr key={id(row)}>
              {columns.map((column, i) =>
                i === 0 ? (
                  <th key={column.key} scope="row" class={classes(column)}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={column.key} class={classes(column)}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function classes<Row>(column: Column<Row>): string {
  return `${column.isNumber ? "number" : ""} ${column.isWide ? "wide" : ""}`.trim();
}

function ariaSort(column: string | undefined, sort: string | undefined): "ascending" | "descending" | undefined {
  if (column === undefined || column !== sort) return undefined;
  return column === "name" ? "ascending" : "descending";
}

/**
 * Rows do not change places under a pointer or below the keyboard's focus: whoever is about to press a link gets the row they
 * aim at. The numbers go on.
 */
function useHeldOrder<Row>(rows: readonly Row[], id: (row: Row) => string, sort: string | undefined) {
  const held = useRef<{ order: string[]; sort: string | undefined; by: Set<string> }>({ order: [], sort, by: new Set() });
  const state = held.current;
  let shown = rows;
  if (state.by.size > 0 && state.sort === sort) {
    const places = new Map(state.order.map((id, place) => [id, place]));
    const place = (row: Row) => places.get(id(row)) ?? Number.MAX_SAFE_INTEGER;
    shown = [...rows].sort((a, b) => place(a) - place(b));
  }
  state.order = shown.map(id);
  state.sort = sort;
  const by = (who: string, isHeld: boolean) => () => void (isHeld ? state.by.add(who) : state.by.delete(who));
  const hold = {
    onPointerEnter: by("pointer", true),
    onPointerLeave: by("pointer", false),
    onFocusIn: by("focus", true),
    onFocusOut: by("focus", false),
  };
  return [shown, hold] as const;
}

/** How many of all there are on the page. */
export function shownOf(shown: number, total: number, noun: string): string {
  if (shown === total) return `${count(total)} ${noun}${total === 1 ? "" : "s"}`;
  return `the first ${count(shown)} of ${count(total)} ${noun}s`;
}
