/** How often each of some values stands, or how much each has: names, numbers and bars. */

import { percent, rounded, spaced } from "../words";
import { Foreign } from "./parts";

interface SpreadProps {
  title: string;
  /** The greatest first. */
  rows: readonly (readonly [name: string, value: number])[];
  testid?: string;
}

export function Spread({ title, rows, testid }: SpreadProps) {
  const most = rows[0]?.[1] ?? 0;
  if (rows.length === 0) return null;
  return (
    <section data-testid={testid}>
      <h3>{title}</h3>
      <table className="spread">
        <tbody>
          {rows.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">
                <Foreign>{spaced(name)}</Foreign>
              </th>
              <td className="number">{rounded(value)}</td>
              <td className="spread-bar" aria-hidden="true">
                <span style={{ width: `${percent(value, most)}%` }} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
