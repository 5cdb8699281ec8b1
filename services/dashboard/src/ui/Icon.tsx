/** The page's own icons, drawn with the colour of the text around them. */

const PATHS = {
  bell: "M3 11.5h10l-1.5-2V7a3.5 3.5 0 0 0-7 0v2.5z M6.8 13.8h2.4",
  check: "M3.5 8.5l3 3 6-7",
  clock: "M8 4.5V8l2.5 1.5 M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z",
  close: "M4 4l8 8 M12 4l-8 8",
  cross: "M5.5 5.5l5 5 M10.5 5.5l-5 5 M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z",
  pause: "M6 4v8 M10 4v8",
  play: "M5 3.5l7 4.5-7 4.5z",
  plus: "M8 3v10 M3 8h10",
  quiet: "M3 6.5h2L8 4v8L5 9.5H3z M10.5 6.5l3 3 M13.5 6.5l-3 3",
  sound: "M3 6.5h2L8 4v8L5 9.5H3z M10.5 6a3 3 0 0 1 0 4 M12.5 4.5a5.2 5.2 0 0 1 0 7",
  stop: "M4.5 4.5h7v7h-7z",
  warning: "M8 2.5L14 13H2z M8 6.5v3 M8 11.3v.2",
  info: "M8 7.5v3.5 M8 5v.2 M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
