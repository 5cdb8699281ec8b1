/** Short tones for what happens while nobody looks; off until switched on. */

import { onPreference, recall, remember } from "./preferences";

export type Pattern = "success" | "stopped" | "failure" | "warning";

/** Frequencies in hertz, one after the other. */
const PATTERNS: Record<Pattern, readonly number[]> = {
  success: [523, 659, 784],
  stopped: [440],
  failure: [392, 262],
  warning: [660, 660, 660],
};
const TONE_S = 0.14;
const VOLUME = 0.12;

const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";

let isOn = recall("sound", false, isBoolean);
let context: AudioContext | undefined;
const listeners = new Set<() => void>();

onPreference("sound", () => {
  isOn = recall("sound", false, isBoolean);
  tell();
});

export const soundIsOn = (): boolean => isOn;

export function onSound(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Switch the sound; a click is also what lets a browser play at all. */
export function switchSound(on: boolean): void {
  isOn = on;
  remember("sound", on);
  tell();
  if (on) play("success");
}

function tell(): void {
  for (const listener of [...listeners]) listener();
}

export function play(pattern: Pattern): void {
  if (!isOn || !("AudioContext" in window)) return;
  context ??= new AudioContext();
  const audio = context;
  audio.resume().then(
    () => sound(audio, PATTERNS[pattern]),
    (error: unknown) => console.info("The browser plays no sound before a click.", error),
  );
}

function sound(audio: AudioContext, tones: readonly number[]): void {
  tones.forEach((frequency, index) => {
    const start = audio.currentTime + index * TONE_S;
    const oscillator = new OscillatorNode(audio, { frequency, type: "sine" });
    const gain = new GainNode(audio, { gain: 0 });
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(VOLUME, start + 0.01);
    gain.gain.linearRampToValueAtTime(0, start + TONE_S - 0.01);
    oscillator.connect(gain).connect(audio.destination);
    oscillator.start(start);
    oscillator.stop(start + TONE_S);
  });
}
