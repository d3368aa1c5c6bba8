// Text of strangers (what servers write, names, errors) as it is shown. The page only ever sets it as text, so markup in it is
// harmless; what is left is characters that one cannot see, or that turn the direction of what follows.

// Controls, line and paragraph separators, marks of direction, characters without width.
const ACTS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const MAX = 4_000;

function written(character: string): string {
  const code = character.charCodeAt(0);
  const hex = code.toString(16);
  return code < 0x100 ? `\\x${hex.padStart(2, "0")}` : `\\u{${hex}}`;
}

/** `text` with what acts written as `\x1b` or `\u{202e}`, at most `most` characters of it. Tabs and line ends stay. */
export function visible(text: string, most = MAX): string {
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  return cut.replace(ACTS, written);
}

/** {@link visible} on one line. */
export function line(text: string, most = MAX): string {
  return visible(text, most).replace(/\n/g, " ⏎ ");
}
