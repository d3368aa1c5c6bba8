/** A program and its arguments, as a shell would be given them. */
export function commandLine(program: string, args: readonly string[]): string {
  return [program, ...args].map(quoted).join(" ");
}

function quoted(word: string): string {
  return /^[\p{L}\p{N}_=./:@%+,[\]{}-]+$/u.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
