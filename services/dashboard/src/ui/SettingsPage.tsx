/** What this browser prefers, who is told of batches' turns, and what answers. */

import { useQuery } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";

import { getAbout } from "../calls";
import { onSound, play, soundIsOn, switchSound } from "../sound";
import { chooseTheme, currentTheme, onTheme, THEMES } from "../theme";
import { grouped, UNKNOWN, wordsOf } from "../words";
import { KeptNote } from "./KeptNote";
import { Foreign, Trouble } from "./parts";
import { Webhooks } from "./Webhooks";

const REFRESH_MS = 10_000;
const PATTERNS = [
  ["success", "completed"],
  ["stopped", "stopped"],
  ["failure", "failed"],
  ["warning", "stuck"],
] as const;

export function SettingsPage() {
  return (
    <>
      <section className="card settings" aria-labelledby="settings-title">
        <h1 id="settings-title">Settings</h1>
        <p className="muted">
          <KeptNote otherwise="Kept in this browser alone." />
        </p>
        <ThemeChoice />
        <Sound />
      </section>
      <Webhooks />
      <AboutCard />
    </>
  );
}

function ThemeChoice() {
  const chosen = useSyncExternalStore(onTheme, currentTheme);
  return (
    <fieldset className="choices">
      <legend>Colours</legend>
      {THEMES.map((theme) => (
        <label key={theme}>
          <input
            type="radio"
            name="theme"
            data-testid={`theme-${theme}`}
            checked={theme === chosen}
            onChange={() => chooseTheme(theme)}
          />
          {theme === "system" ? "as the system" : theme}
        </label>
      ))}
    </fieldset>
  );
}

function Sound() {
  const isOn = useSyncExternalStore(onSound, soundIsOn);
  return (
    <fieldset className="choices">
      <legend>Sound</legend>
      <label>
        <input
          type="checkbox"
          data-testid="settings-sound"
          checked={isOn}
          onChange={(event) => switchSound(event.target.checked)}
        />
        when a batch ends or gets stuck
      </label>
      {isOn && (
        <span className="sound-samples">
          Listen:
          {PATTERNS.map(([pattern, name]) => (
            <button
              key={pattern}
              type="button"
              data-testid={`sound-${pattern}`}
              onClick={() => play(pattern)}
            >
              {name}
            </button>
          ))}
        </span>
      )}
    </fieldset>
  );
}

function AboutCard() {
  const answer = useQuery({
    queryKey: ["about"],
    queryFn: ({ signal }) => getAbout(signal),
    refetchInterval: REFRESH_MS,
  });
  const about = answer.data;
  const facts: [name: string, testid: string, value: string][] = [
    ["Version of the server", "version", about?.version ?? UNKNOWN],
    ["Event stream", "stream", about?.stream ?? UNKNOWN],
    ["Epoch of the stream", "epoch", about?.epoch ?? UNKNOWN],
    ["Sequence", "sequence", about ? grouped(about.as_of) : UNKNOWN],
    ["Build of the page", "page", about?.page?.slice(0, 12) ?? UNKNOWN],
  ];
  return (
    <section className="card" aria-labelledby="about-title">
      <h2 id="about-title">About</h2>
      {answer.error && (
        <Trouble
          what="The server did not tell of itself"
          words={wordsOf(answer.error)}
          retry={() => void answer.refetch()}
        />
      )}
      <dl className="fact-list" data-testid="about">
        {facts.map(([name, testid, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd data-testid={`about-${testid}`}>
              <Foreign>{value}</Foreign>
            </dd>
          </div>
        ))}
      </dl>
      <p className="below-facts">
        <a href="/v1/openapi.json">The HTTP API</a>, as OpenAPI.
      </p>
    </section>
  );
}
