import { ListView } from "./list_view.tsx";
import { tenantColumns } from "./use_columns.tsx";
import type { ViewProps } from "./view.ts";

export function TenantsView(props: ViewProps) {
  return (
    <ListView
      {...props}
      title="Tenants"
      noun="tenant"
      about="ranked by what they use"
      none="There are no tenants."
      rows={props.live.overview?.tenants}
      columns={tenantColumns}
      id={(row) => row.name}
    />
  );
}
