/** Lines over time, drawn by uPlot; its numbers stand in a table beside it. */

import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { dressOf } from "../series";
import { axisTimes, grouped, localTime, money, short, UNKNOWN } from "../words";

const HEIGHT = 180;
/** Room for "12:00:00 PM", half of it beyond the last time. */
const AXIS_WORDS = 90;
/** With more times than this only those points are drawn that no line leads to. */
const POINTS_MOST = 60;
/** Wide enough to tell a dashed border from a dotted one. */
const MARK_BORDER = 3;

interface Series {
  name: string;
  values: (number | null)[];
}

interface ChartProps {
  times: number[];
  /** Seconds from one time to the next. */
  step: number;
  series: Series[];
  /** The values are nano US dollars. */
  isMoney: boolean;
}

export function Chart({ times, step, series, isMoney }: ChartProps) {
  const holder = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = holder.current;
    if (!element) return undefined;
    const ink = getComputedStyle(element).color;
    const grid = { stroke: `color-mix(in srgb, ${ink} 20%, transparent)`, width: 1 };
    const axis = { stroke: ink, grid, ticks: grid };
    const words = isMoney ? money : grouped;
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        padding: [null, AXIS_WORDS / 2, null, null],
        cursor: { drag: { x: false, y: false } },
        axes: [
          { ...axis, space: AXIS_WORDS, values: (_, ticks, _axis, _space, by) => axisTimes(ticks, by) },
          { ...axis, size: 90, values: (_, ticks) => ticks.map(isMoney ? money : short) },
        ],
        legend: {
          markers: { width: MARK_BORDER, dash: (_, place) => dressOf(place - 1).border },
        },
        scales: {
          // Of its own times: uPlot would have the axis of a single point span years.
          x: { range: () => [(times[0] ?? 0) - step, (times.at(-1) ?? 0) + step] },
          y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : isMoney ? 1e9 : 1] },
        },
        series: [
          { label: "Time", value: (_, seconds: number | null) => timeOf(seconds) },
          ...series.map(({ name }, place) => ({
            label: name,
            value: (_: uPlot, value: number | null) => (value === null ? UNKNOWN : words(value)),
            stroke: dressOf(place).colour,
            dash: dressOf(place).dash,
            width: 2,
            points: { show: times.length < POINTS_MOST, filter: alone },
          })),
        ],
      },
      [times, ...series.map(({ values }) => values)],
      element,
    );
    const observer = new ResizeObserver(() =>
      plot.setSize({ width: element.clientWidth, height: HEIGHT }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [times, step, series, isMoney]);
  return <div ref={holder} className="chart" aria-hidden="true" />;
}

/** Where a value stands between two gaps, so that no line shows it; null for all points. */
function alone(plot: uPlot, place: number, isShown: boolean): number[] | null {
  if (isShown) return null;
  const values = plot.data[place] ?? [];
  const found = [...values.keys()].filter(
    (at) => values[at] != null && values[at - 1] == null && values[at + 1] == null,
  );
  return found.length > 0 ? found : null;
}

function timeOf(seconds: number | null): string {
  return seconds === null ? UNKNOWN : localTime(new Date(seconds * 1000).toISOString());
}
