// Before anything is painted: the colours that were chosen here, else those of the machine.
(function () {
  try {
    const chosen = localStorage.getItem("forwhy-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch { /* without storage the machine decides */ }
})();
