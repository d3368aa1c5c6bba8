import { ListView } from "./list_view.tsx";
import { serverColumns } from "./use_columns.tsx";
import type { ViewProps } from "./view.ts";

export function ServersView(props: ViewProps) {
  return (
    <ListView
      {...props}
      title="Servers"
      noun="server"
      about="ranked by what they use"
      none="There are no servers."
      rows={props.live.overview?.servers}
      columns={serverColumns}
      id={(row) => row.name}
    />
  );
}
