"""What a browser is asked about a page, as expressions to evaluate in it."""

#: Times, requests and bytes of the page and all that it loads, and how much wider it is than the screen.
FIGURES = """() => {
  const page = performance.getEntriesByType("navigation")[0];
  const loads = [page, ...performance.getEntriesByType("resource")];
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return {
    load_ms: page.loadEventEnd, paint_ms: paint ? paint.startTime : 0, requests: loads.length,
    bytes: loads.reduce((sum, one) => sum + one.transferSize, 0),
    wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
}"""
#: How much of the screen moved, and how far, while the page came.
SHIFT = """() => new Promise((done) => {
  let sum = 0;
  new PerformanceObserver((list) => { for (const one of list.getEntries()) sum += one.value; })
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(sum), 200);
})"""
