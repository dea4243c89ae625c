// Browsers start no worker from a file on disk, and the search is one: a hidden frame stands in for it.
if (location.protocol === "file:") {
  const loaded = (view, url) =>
    new Promise((done, failed) => {
      const script = view.document.createElement("script");
      Object.assign(script, { src: url, onload: done, onerror: failed });
      view.document.body.append(script);
    });

  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = Object.assign(document.createElement("iframe"), { hidden: true });
      document.body.append(frame);
      this.view = frame.contentWindow;
      this.view.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        this.onmessage?.(event);
      };
      this.view.importScripts = (...urls) => Promise.all(urls.map((each) => loaded(this.view, each)));
      this.ready = loaded(this.view, url);
    }

    postMessage(data) {
      this.ready.then(() => this.view.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.view.frameElement.remove();
    }
  };
}
