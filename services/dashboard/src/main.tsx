import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { queries, startSession } from "./live/session";
import "./styles/index.css";
import { applyTheme } from "./theme";
import { App } from "./ui/App";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element with the id root");

applyTheme();
startSession();
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
);
