// Rows by what somebody writes into a filter.

/** A test of rows by words: each must be in the row's text, or, as `tenant:acme`, at the start of that field. */
export function filter<Row>(query: string, fields: (row: Row) => Record<string, string | null | undefined>): (row: Row) => boolean {
  const words = query.toLowerCase().split(/\s+/).filter((word) => word !== "");
  return (row) => {
    const all = fields(row);
    return words.every((word) => {
      const colon = word.indexOf(":");
      const name = word.slice(0, colon);
      if (colon > 0 && name in all) return (all[name] ?? "").toLowerCase().startsWith(word.slice(colon + 1));
      return Object.values(all).some((text) => text != null && text.toLowerCase().includes(word));
    });
  };
}
