// Before the first paint, so that nothing flashes.
"use strict";
(() => {
  let theme = "";
  try { theme = localStorage.getItem("mediaferry-theme") || ""; } catch { /* storage is off: as the system has it */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
