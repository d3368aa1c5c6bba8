// The dashboard's build. Its result, `dist/`, is committed and embedded in the binary: `scripts/web --check` compares it with these sources.

import { defineConfig } from "vite";

export default defineConfig({
  // Works at `/` of the admin listener, and below another path of a proxy.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    // `light-dark()` stays as it is written: every browser since the middle of 2024 has it.
    target: ["chrome123", "firefox120", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
