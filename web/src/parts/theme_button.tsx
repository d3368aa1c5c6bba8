import { useState } from "preact/hooks";
import { applyTheme, theme, THEMES } from "../theme.ts";

const ICONS = {
  system: "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13zM8 3a5 5 0 0 1 0 10z",
  light: "M8 4.6a3.4 3.4 0 1 0 0 6.8a3.4 3.4 0 0 0 0-6.8zM7.3.8h1.4v2.3H7.3zM7.3 12.9h1.4v2.3H7.3zM.8 7.3h2.3v1.4H.8zM12.9 7.3h2.3v1.4h-2.3z",
  dark: "M12.4 11.1A6.5 6.5 0 0 1 6.6 1.6 6.5 6.5 0 1 0 14 10.4a6.3 6.3 0 0 1-1.6.7z",
} as const;

/** System, light, dark, and on. */
export function ThemeButton() {
  const [chosen, setChosen] = useState(theme);
  const next = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length] ?? "system";
  return (
    <button
      type="button"
      class="icon-button"
      aria-label={`Colours: ${chosen}. Change to ${next}`}
      title={`Colours: ${chosen}`}
      onClick={() => {
        applyTheme(next);
        setChosen(next);
      }}
    >
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <path d={ICONS[chosen]} />
      </svg>
    </button>
  );
}
