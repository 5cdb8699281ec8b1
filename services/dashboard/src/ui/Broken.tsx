/** Stands in place of a page that could not be fetched or drawn; the frame around it lives on. */

import { Component, useEffect, useState, type ReactNode } from "react";

import { useConnection } from "../live/hooks";
import { wordsOf } from "../words";
import { Icon } from "./Icon";
import { Foreign } from "./parts";

interface State {
  words: string | null;
}

export class Broken extends Component<{ children: ReactNode }, State> {
  override state: State = { words: null };

  static getDerivedStateFromError(error: unknown): State {
    return { words: wordsOf(error) };
  }

  override render(): ReactNode {
    const { words } = this.state;
    if (words === null) return this.props.children;
    return (
      <section className="card" data-testid="broken-page">
        <ReloadOnReturn />
        <h1>This page could not be opened</h1>
        <p className="trouble" role="alert">
          <Icon name="warning" />
          <span>
            The server may be away, or give another version by now: <Foreign>{words}</Foreign>
          </span>
          <button type="button" onClick={() => location.reload()}>
            Reload
          </button>
        </p>
      </section>
    );
  }
}

/**
 * Opens the page anew when a server that was away is back: what failed to come is not asked for
 * twice otherwise. One that fails while the server is there waits for the reader, or it would go on
 * failing for ever.
 */
function ReloadOnReturn() {
  const { state } = useConnection();
  const isHere = state === "live" || state === "polling";
  const [wasAway, setAway] = useState(false);
  if (!wasAway && !isHere && state !== "connecting") setAway(true);
  useEffect(() => {
    if (wasAway && isHere) location.reload();
  }, [wasAway, isHere]);
  return null;
}
