/** The samples of all batches. */

import { SampleBrowser } from "./SampleBrowser";

export function SamplesPage() {
  return (
    <section className="card" aria-labelledby="samples-title">
      <header className="card-head">
        <h1 id="samples-title">Samples</h1>
      </header>
      <h2 className="for-readers">All samples</h2>
      <SampleBrowser batch={null} />
    </section>
  );
}
