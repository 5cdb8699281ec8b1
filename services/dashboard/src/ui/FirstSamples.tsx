/** How long batches took from their start to their first sample: bars, with their numbers. */

import type { FirstSampleRow } from "../analysis";
import { lineOf } from "../series";
import { grouped, percent, seconds, UNKNOWN } from "../words";
import { Foreign } from "./parts";

export function FirstSamples({ rows }: { rows: readonly FirstSampleRow[] }) {
  if (rows.length === 0) return null;
  const most = Math.max(...rows.map(({ first_sample_ms }) => first_sample_ms.p95 ?? 0));
  return (
    <section className="measure" data-testid="first-samples">
      <h2 id="first-samples">Time to first sample</h2>
      <p className="muted">
        From a batch’s start, its wait in line included. A batch without a sample is not counted.
      </p>
      <div className="table-scroll" tabIndex={0} role="region" aria-labelledby="first-samples">
        <table className="first-samples">
          <thead>
            <tr>
              <th scope="col">First sample by</th>
              {["Batches", "p50", "p95"].map((name) => (
                <th key={name} scope="col" className="number">
                  {name}
                </th>
              ))}
              <td className="first-bars" />
            </tr>
          </thead>
          <tbody>
            {rows.map(({ first_sample_ms: { p50, p95 }, batches, ...row }) => (
              <tr key={lineOf(row)} data-testid="first-sample">
                <th scope="row">
                  <Foreign>{lineOf(row)}</Foreign>
                </th>
                <td className="number">{grouped(batches)}</td>
                <td className="number">{p50 === null ? UNKNOWN : seconds(p50)}</td>
                <td className="number">{p95 === null ? UNKNOWN : seconds(p95)}</td>
                <td className="first-bars" aria-hidden="true">
                  <span style={{ width: `${percent(p95 ?? 0, most)}%` }}>
                    <span style={{ width: `${percent(p50 ?? 0, p95 ?? 0)}%` }} />
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
