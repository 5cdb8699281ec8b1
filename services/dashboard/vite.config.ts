import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** Where `npm run dev` finds the API; a built page always talks to its own origin. */
const API = "http://127.0.0.1:5001";

/**
 * The page's icon with each count that fits in, as files: an icon that is drawn in the page would
 * be a data: address, which `default-src 'self'` forbids.
 */
function countedIcons(): Plugin {
  return {
    name: "counted-icons",
    apply: "build",
    generateBundle(_, bundle) {
      const found = Object.values(bundle).find((file) => /icon-[^/]*[.]svg$/.test(file.fileName));
      if (found?.type !== "asset") throw new Error("the bundle holds no icon.svg to count on");
      const { source } = found;
      const icon = typeof source === "string" ? source : new TextDecoder().decode(source);
      for (const count of ["1", "2", "3", "4", "5", "6", "7", "8", "9", "9+"]) {
        const badge = `<circle cx="22" cy="22" r="10" fill="#18202b" stroke="#fff" stroke-width="2"/>
<text x="22" y="26.5" text-anchor="middle" font-family="sans-serif" font-weight="700"
 font-size="13" fill="#fff">${count}</text></svg>`;
        const counted = icon.replace("</svg>", badge);
        this.emitFile({ type: "asset", fileName: `icons/${count}.svg`, source: counted });
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), countedIcons()],
  build: {
    outDir: "../api/millstream_api/dashboard",
    emptyOutDir: true,
    target: "es2022",
    // Inlined assets would be data: addresses, which `default-src 'self'` forbids.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: "es" },
  server: { proxy: { "/v1": API, "/healthz": API } },
});
