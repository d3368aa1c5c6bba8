// Who uses most, in short.

import type { Rows, ServerUse, TenantUse } from "../api/types.ts";
import { Empty, Panel } from "../parts/panel.tsx";
import { Table } from "../parts/table.tsx";
import { count } from "../words/format.ts";
import { address } from "../words/route.ts";
import { serverColumns, tenantColumns } from "./use_columns.tsx";

const SHORT = ["name", "workers", "calls", "cpu", "memory"];

export function TopTenants({ rows }: { rows: Rows<TenantUse> }) {
  return (
    <Panel title="Tenants that use most" note={<a href={address("tenants")}>All {count(rows.total)}</a>}>
      {rows.total === 0 ? (
        <Empty>There are no tenants.</Empty>
      ) : (
        <Table caption="Tenants by processor time" rows={rows.rows} id={(row) => row.name} columns={tenantColumns.filter((column) => SHORT.includes(column.key))} />
      )}
    </Panel>
  );
}

export function TopServers({ rows }: { rows: Rows<ServerUse> }) {
  return (
    <Panel title="Servers that use most" note={<a href={address("servers")}>All {count(rows.total)}</a>}>
      {rows.total === 0 ? (
        <Empty>There are no servers.</Empty>
      ) : (
        <Table caption="Servers by processor time" rows={rows.rows} id={(row) => row.name} columns={serverColumns.filter((column) => SHORT.includes(column.key))} />
      )}
    </Panel>
  );
}
