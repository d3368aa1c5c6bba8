import assert from "node:assert/strict";
import test from "node:test";
import { line, visible } from "../src/words/escape.ts";
import { commandLine } from "../src/words/shell.ts";

test("what acts is written, and text stays", () => {
  assert.equal(visible("\u001b[31mred\u001b[0m"), "\\x1b[31mred\\x1b[0m");
  assert.equal(visible("gpj\u202etxt"), "gpj\\u{202e}txt");
  assert.equal(visible("a\tb\nc\r"), "a\tb\nc\\x0d");
  assert.equal(visible("<b>é 漢 🙂</b>"), "<b>é 漢 🙂</b>");
  assert.equal(visible("\u0000\u009b\ufeff\u200b"), "\\x00\\x9b\\u{feff}\\u{200b}");
  assert.equal(line("a\nb"), "a ⏎ b");
});

test("the length is bounded", () => {
  assert.equal(visible("x".repeat(9_999), 100), `${"x".repeat(100)}…`);
});

test("a command line is as a shell would be given it", () => {
  assert.equal(commandLine("uvx", ["mcp-search@1.4.0", "--key", "[redacted]", "it's two words", ""]), "uvx mcp-search@1.4.0 --key [redacted] 'it'\\''s two words' ''");
});
