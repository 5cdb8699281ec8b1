/** The script of the worker that all tabs of a browser share. */

import { clock } from "./clock";
import { Sharing } from "./sharing";
import { sources } from "./sources";

// The page's type library is that of windows, which has no name for this.
const scope = self as unknown as { onconnect: (event: MessageEvent) => void };

const sharing = new Sharing(clock, sources);
scope.onconnect = ({ ports }) => {
  const port = ports[0];
  if (port) sharing.welcome(port);
};
sharing.feed.connect();
self.addEventListener("offline", () => void sharing.feed.doubt());
self.addEventListener("online", sharing.feed.connect);
