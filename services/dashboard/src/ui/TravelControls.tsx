/** The slider over a log and its buttons: a step back or on, play, and how far a step goes. */

import { grouped } from "../words";

const SPEEDS = [1, 10, 100, 1000];

export function TravelControls(props: {
  label: string;
  first: number;
  last: number;
  shown: number;
  /** What the slider says to who can't see it. */
  valueText: string;
  speed: number;
  isPlaying: boolean;
  mayPlay: boolean;
  seek(value: number): void;
  setSpeed(speed: number): void;
  play(): void;
}) {
  const { first, last, shown, speed, seek } = props;
  return (
    <>
      <label>
        {props.label}{" "}
        <input
          type="range"
          data-testid="slider"
          min={Math.min(first, shown)}
          max={last}
          value={shown}
          aria-valuetext={props.valueText}
          onChange={(event) => seek(event.target.valueAsNumber)}
        />
      </label>
      <button type="button" onClick={() => seek(Math.max(first, shown - speed))}>
        Step back
      </button>
      <button type="button" onClick={() => seek(Math.min(last, shown + speed))}>
        Step on
      </button>
      <button
        type="button"
        data-testid="play"
        aria-pressed={props.isPlaying}
        disabled={!props.mayPlay}
        onClick={props.play}
      >
        {props.isPlaying ? "Pause" : "Play"}
      </button>
      <label>
        Speed{" "}
        <select
          data-testid="speed"
          value={speed}
          onChange={(event) => props.setSpeed(Number(event.target.value))}
        >
          {SPEEDS.map((one) => (
            <option key={one} value={one}>
              {one === 1 ? "every event" : `${grouped(one)} events a step`}
            </option>
          ))}
        </select>
      </label>
    </>
  );
}
