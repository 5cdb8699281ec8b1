import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

/** Where `npm run dev` finds the API; a built page always talks to its own origin. */
const API = "http://127.0.0.1:5001";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../api/millstream_api/dashboard",
    emptyOutDir: true,
    target: "es2022",
    // Inlined assets would be data: addresses, which `default-src 'self'` forbids.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: "es" },
  server: { proxy: { "/v1": API } },
});
