import { render } from "preact";
import { App } from "./app.tsx";
import { applyTheme } from "./theme.ts";
import "./style/base.css";
import "./style/parts.css";
import "./style/views.css";

applyTheme();
const root = document.getElementById("app");
if (root) render(<App />, root);
