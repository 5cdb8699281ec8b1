/** One batch in full, live while it runs: details, samples, events, quality. */

import { Dialog } from "@base-ui/react/dialog";
import { Tabs } from "@base-ui/react/tabs";
import { useQuery } from "@tanstack/react-query";

import { getBatch } from "../calls";
import type { BatchView } from "../contract";
import { useBatch } from "../live/hooks";
import { closeBatch, useOpenBatch } from "../place";
import { wordsOf } from "../words";
import { BatchFacts } from "./BatchFacts";
import { BatchEvents } from "./BatchEvents";
import { BatchQuality } from "./BatchQuality";
import { BatchSamples } from "./BatchSamples";
import { Icon } from "./Icon";
import { Empty, StateChip, Trouble } from "./parts";

export function Details() {
  const id = useOpenBatch();
  return (
    <Dialog.Root open={id !== null} onOpenChange={(open) => !open && closeBatch()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="drawer" data-testid="details" data-batch={id}>
          {id && <BatchDetails key={id} id={id} />}
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function BatchDetails({ id }: { id: string }) {
  const held = useBatch(id);
  const answer = useQuery({
    queryKey: ["batch", id, "view"],
    queryFn: ({ signal }) => getBatch(id, undefined, signal),
    enabled: held === undefined,
  });
  const batch = held ?? answer.data?.batch;
  return (
    <>
      <header className="card-head">
        <Dialog.Title className="mono">{id}</Dialog.Title>
        {batch && <StateChip state={batch.state} />}
        <Dialog.Close className="quiet icon-only" aria-label="Close the details">
          <Icon name="close" />
        </Dialog.Close>
      </header>
      {batch && <BatchTabs batch={batch} />}
      {!batch && answer.isPending && <Empty>Reading the batch…</Empty>}
      {!batch && answer.error && (
        <Trouble
          what="The batch could not be read"
          words={wordsOf(answer.error)}
          retry={() => void answer.refetch()}
        />
      )}
    </>
  );
}

function BatchTabs({ batch }: { batch: BatchView }) {
  return (
    <Tabs.Root defaultValue="details" className="tabs">
      <Tabs.List className="tab-list">
        <Tabs.Tab value="details">Details</Tabs.Tab>
        <Tabs.Tab value="samples" data-testid="tab-samples">
          Samples ({batch.counts.generated.toLocaleString()})
        </Tabs.Tab>
        <Tabs.Tab value="events" data-testid="tab-events">
          Events
        </Tabs.Tab>
        <Tabs.Tab value="quality" data-testid="tab-quality">
          Quality
        </Tabs.Tab>
      </Tabs.List>
      <Tabs.Panel value="details" className="tab-panel">
        <BatchFacts batch={batch} />
      </Tabs.Panel>
      <Tabs.Panel value="samples" className="tab-panel">
        <BatchSamples batch={batch} />
      </Tabs.Panel>
      <Tabs.Panel value="events" className="tab-panel">
        <BatchEvents batch={batch} />
      </Tabs.Panel>
      <Tabs.Panel value="quality" className="tab-panel">
        <BatchQuality batch={batch} />
      </Tabs.Panel>
    </Tabs.Root>
  );
}
